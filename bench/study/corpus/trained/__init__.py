"""Small networks of kinds that the study has none of, trained here in seconds: attention, recurrence, maps, graphs."""
