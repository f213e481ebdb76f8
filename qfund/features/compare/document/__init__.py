"""A report to take along: a page that opens anywhere, pictures, a section of a model card. Pure functions of it."""
