"""What tables, figures and words of all features share: palette, axes, number formats, phrases."""
