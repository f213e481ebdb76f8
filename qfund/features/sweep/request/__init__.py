"""What a sweep is: the list of what to compare, its plan, and the ranking of what was found."""
