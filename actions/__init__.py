"""The core pack's actions; each is declared by the manifest of the same name."""
