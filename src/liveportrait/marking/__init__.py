"""Marking results as generated: a watermark in the generated pixels, content credentials in the file."""
