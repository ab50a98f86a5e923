"""What a SavedModel's graph would execute."""


def operations(graph):
    """The kinds of operation that the signatures of a graph execute, and all that call Python, wherever they are.

    Loading and saving, which do assign, are not among them. `graph` is a `MetaGraphDef`.
    """
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    nodes = {node.name: node for node in graph.graph_def.node}
    outputs = [tensor.name for signature in graph.signature_def.values() for tensor in signature.outputs.values()]
    waiting = [nodes[name.split(":")[0]] for name in outputs if name]
    everywhere = {node.op for function in functions.values() for node in function.node_def}
    found, seen = {op for op in everywhere if "PyFunc" in op}, set()
    while waiting:
        node = waiting.pop()
        found.add(node.op)
        # Inputs matter in the outermost graph alone: a function runs whole, so all of its nodes are taken below.
        sources = [name.lstrip("^").split(":")[0] for name in node.input] if nodes.get(node.name) is node else []
        called = [node.op, *(name for attribute in node.attr.values() for name in _called(attribute))]
        for name in sources:
            if name not in seen:
                seen.add(name)
                waiting.append(nodes[name])
        for name in called:
            if name in functions and ("function", name) not in seen:
                seen.add(("function", name))
                waiting.extend(functions[name].node_def)
    return found


def _called(attribute):
    return [attribute.func.name, *(function.name for function in attribute.list.func)]
