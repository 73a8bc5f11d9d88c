"""Performance model of the core: cycles, exact or by closed form, traffic and energy, and the plots made from them."""
