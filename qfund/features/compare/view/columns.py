"""How the columns of the overview are shown."""
