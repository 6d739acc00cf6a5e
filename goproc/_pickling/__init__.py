"""How values, functions and classes travel between processes.

A function that travels by value is a *template* and a *snapshot*:

    template   code, names, and the static globals: modules, importable objects, constants, classes; no mutable
               state. Stored once in the blob store, after that a message holds only its small reference.
    snapshot   closure cells, defaults, mutable globals, channel handles: shipped with each message, so that
               the state of a goroutine never depends on its process or on a cache.

The functions of one module refer to each other through its globals. A template therefore holds a *slice* of the module:
the function, every plain function that it can reach by global names (its members), and the objects to which these
refer. The receiver builds one namespace from the slice and the snapshot, and puts the members over it. So recursion,
mutual recursion and `global` statements work with no special case. Calls share a namespace only if nothing in it can be
rebound. A function that reaches only constant objects is one object per process, however it arrived.

A cached template is checked at each use: the static globals must be the same objects as when it was made. A name that
was found rebound is part of the snapshot from then on: a loop variable at module level costs one extra template, and
not one for each iteration.

A class is one object per process, since `isinstance` has to work across messages. So it has no snapshot of its own: its
definition is applied once, and the mutable globals of its methods are those of the message loaded last. If goroutines
on a worker write to the class, the changes go with the goroutines that they start, and the next call that arrives
undoes them. Where that cannot be right (methods with `global` statements, class attributes that hold handles, a
function that makes new classes for ever) each message has the whole class; it is still one object.

Each file uses only those above it, except imports that run once per class, or after a failure:

    store            the blob store, and the caches that end with it
    names            the names in a code object
    homes            the modules whose definitions travel by value, and their stand-ins elsewhere
    passing          classes that a program makes and forgets
    proxies          objects of wrapt
    statics          importable and immutable objects, which a template may hold
    rebinding        the globals that the code of a module rebinds
    mentions         globals that code reaches by a text only
    wrappers         functions inside lru_cache, one in each process
    identities       copies of a function that are one object
    foreign          libraries and types of ctypes
    pickler          the pickler of messages: the treatment of each type
    named            objects that pickle as a name which no other process knows
    instances        objects of classes with a `__new__` or a `__hash__`
    weak             weak references and weak containers
    remade           thread-locals, context managers, descriptors
    filling          objects that get their state past the methods of their class
    wire             the bytes of a message         copies         a copy in shared memory, and whether it still holds
    making           makes a class that arrives    enumerations    the members of one
    entries          the facts in a process about classes that travel by value
    generics         generic models of pydantic     structs         structs of msgspec
    classes          how a class travels           class_pickler   pickles the definition of one
    class_caches     objects on a class that stay behind
    templates        the template of a function     members         the functions that a template is made of
    reach            the objects that a function reaches by its globals, and how each travels
    functions        makes, loads and caches templates; functions inside a message
    seen             the objects that have made a message large
    large            finds the objects that make a message large
    carried          gives large objects by reference
    calls            the message that starts a goroutine
    received         reads a message with references
    salvage          lists of which each value is read by itself
    messages         any other message: dumps, loads
    bounded          pickles that are not to become large
    exceptions       takes an exception apart      sent_exceptions   exceptions inside a message
    nodes            pickles an exception with all that it leads to
    node_reader      makes these exceptions again
    failure          the message of a failure      diagnose        names the object that cannot be pickled
    advice           what to do in its place
"""

__goproc_frames__ = "tool"
