"""The contract between training and serving: what a published model folder holds."""
