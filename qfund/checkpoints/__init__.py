"""What lies on disk: folders and their headers, the Hub, the catalog, formats that others publish. No torch."""
