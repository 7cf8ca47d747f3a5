"""The parts of `service.client`. Only its two clients connect to a service."""
