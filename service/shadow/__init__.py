"""A candidate version beside the one that serves: copies of live requests, compared."""
