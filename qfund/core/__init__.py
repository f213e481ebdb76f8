"""What every request and result is made of: errors, names, units, models and precisions of a request, statistics."""
