"""Scripts and studies that use tomat and are not part of it."""
