"""What the two frameworks' adapters share."""
