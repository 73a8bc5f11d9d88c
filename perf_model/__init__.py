"""Performance model of the core: cycles, traffic and energy by closed forms, and the plots made from them."""
