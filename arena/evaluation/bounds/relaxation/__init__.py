"""Linear relaxation of ordinary networks: certified lower bounds of the distance to the nearest adversarial.

`reading` makes a graph of a defense, `affine`, `activations` and `pooling` say how each piece is bounded, `backward`
substitutes backwards through the graph (CROWN, Zhang et al. 2018; DeepPoly, Singh et al. 2019), `certificate` finds the
largest radius. docs/bounds.md derives it.
"""
