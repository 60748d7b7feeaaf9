"""What operators with codes of their own define: shapes, layouts, rounding. Nothing here knows a model."""
