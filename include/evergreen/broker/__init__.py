"""Docker broker: workers ask it for containers, it hands on to the engine what the policy allows, and nothing else."""
