"""What the page *Nine questions* shows as code: each file is shown as it is, for the model chosen, and a test runs it.

They are written for the lesson's toy model; ``questions.snippet`` puts another in its place.
"""
