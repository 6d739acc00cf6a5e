"""How values, functions and classes travel between processes.

A function that travels by value is a *template* and a *snapshot*:

    template   code, names, and the static globals: modules, importable objects, constants, classes; no mutable
               state.  Stored once in the blob store, after that a message holds only its small reference.
    snapshot   closure cells, defaults, mutable globals, channel handles: shipped with each message, so that what
               a goroutine sees never depends on where it runs or on what was cached.

The functions of one module refer to each other through its globals.  A template therefore holds a *slice* of the
module: the function, every plain function it can reach by global names (its members), and what these refer to.
The receiver builds one namespace from the slice and the snapshot, and puts the members over it: recursion, mutual
recursion and `global` statements then work with no special case.  A namespace is shared by calls only when nothing
in it can be rebound.  A function that reaches nothing that can change is one object per process, by whichever way it
arrived.

A cached template is checked at each use: the static globals must be the very objects it was made from.  A name that
was found rebound is part of the snapshot from then on, so a loop variable at module level costs one extra template
and not one for each turn.

A class is one object per process, since `isinstance` has to work across messages.  So it has no snapshot of its
own: its definition is applied once, and the mutable globals of its methods are those of the message loaded last.
What goroutines write to it on a worker goes with those that they start, and is undone by the next call that arrives.
Where that cannot be right (methods with `global` statements, class attributes that hold handles, a function that
makes new classes for ever) the class is sent whole in each message; its identity still holds.

Each file uses only those above it, but for what runs once per class (late imports) or after a failure:

    store            the blob store, and the caches that end with it
    names            what a code object refers to
    homes            the modules whose definitions travel by value, and what stands for them elsewhere
    passing          classes that a program makes and forgets
    proxies          objects of wrapt
    statics          what is importable, what is immutable: what a template may hold
    rebinding        which globals the code of a module rebinds
    mentions         globals that code reaches by a text only
    wrappers         functions inside lru_cache, one in each process
    identities       which copies of a function are one object
    pickler          the pickler of messages: what is done with each type
    wire             the bytes of a message         copies         a copy in shared memory, and whether it still holds
    making           makes a class that arrives    enumerations    the members of one
    entries          what a process knows of the classes that travel by value
    classes          how a class travels           class_pickler   pickles the definition of one
    templates        the template of a function
    reach            what a function reaches by its globals, and how each of them travels
    functions        makes, loads and caches templates; functions inside a message
    large            finds what makes a message large
    carried          gives what is large by reference
    calls            the message that starts a goroutine
    received         reads a message with references
    messages         any other message: dumps, loads
    bounded          pickles that are not to become large
    exceptions       takes an exception apart      sent_exceptions   exceptions inside a message
    nodes            pickles an exception with all that it leads to
    node_reader      makes these exceptions again
    failure          the message of a failure      diagnose        says which object cannot be pickled
"""

__goproc_frames__ = "tool"
