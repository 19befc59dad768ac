"""The paper as pure functions of tensors. Knows only torch."""
