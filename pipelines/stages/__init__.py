"""The stages: async functions over dagger-io values, one module each."""
