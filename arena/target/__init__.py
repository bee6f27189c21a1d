"""All that an attack gets of a defense, counted and remembered."""
