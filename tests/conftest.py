"""Settings that every test shares."""

from hypothesis import settings

# No deadline: the first example of a property compiles the golden model. The blob makes a failure found on another
# machine reproducible. What Hypothesis itself sets when CI is in the environment stays.
settings.register_profile("lean-attention", parent=settings(), deadline=None, print_blob=True)
settings.load_profile("lean-attention")
