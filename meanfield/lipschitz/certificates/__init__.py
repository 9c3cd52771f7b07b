"""What certificates are made of: heads at a measure, how far they change in a ball around it, and
norms that are proved (docs: theory/certificates)."""
