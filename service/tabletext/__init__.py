"""How tables write values: encoding, separator, quotes and decimal marks."""
