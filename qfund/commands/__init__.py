"""Sub-commands of the command line that have a file of their own: each adds its options and says what runs them."""
