"""Shadow deployments: a candidate version gets copies of live requests, and is compared."""
