"""A run's configuration: composed by Hydra, checked by pydantic, before torch is imported."""
