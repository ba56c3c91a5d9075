"""Networks the lessons look into, and the checkpoints that ship with the course."""
