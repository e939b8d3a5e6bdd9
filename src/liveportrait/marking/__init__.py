"""What a result says of itself: a watermark in the generated pixels, content credentials in the file."""
