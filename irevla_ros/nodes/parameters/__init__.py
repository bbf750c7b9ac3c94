"""What each node can be set to, known without starting it: the module of a program's name here has ``settings(read)``.

It reads dataclasses, whose fields are the parameters, then looks at the files that they name. The node declares by the same
function (``GraphNode.declare``), `irevla up` and the launch files check by it (``checking``). Nothing here loads the middleware
or torch.
"""
