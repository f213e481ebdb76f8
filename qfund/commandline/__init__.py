"""What sub-commands share: options, texts, progress, tables."""
