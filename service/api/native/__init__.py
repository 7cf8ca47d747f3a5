"""The native protocol: named features in, labeled predictions out."""
