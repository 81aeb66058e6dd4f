"""One module per type of the API: resolvers translate, they run nothing."""
