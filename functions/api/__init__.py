"""HTTP in, HTTP out: the routes, what requests say, the shapes of answers. All that knows CRMs is the layer's."""
