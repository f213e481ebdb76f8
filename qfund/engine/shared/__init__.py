"""What web servers that share a database know of each other: whose a job is, who is gone, what still has to be kept."""
