"""Small networks trained from scratch, and what this tool measures of them; see README.md."""
