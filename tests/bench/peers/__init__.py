"""Others that run durable steps, measured beside us. Nothing here is needed by the product."""
