"""Many runs at once: frozen into folders first, then run by one executor or another, and looked at meanwhile."""
