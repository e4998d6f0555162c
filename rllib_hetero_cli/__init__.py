"""The command `rllib-hetero`: reads what is asked for, and only then imports the library.

A package beside the library, and not in it, so that help, the version and a mistyped argument take
a moment instead of the ten seconds of Ray and torch. Whoever imports a module of `rllib_hetero`
imports `rllib_hetero` itself before, and that has to import all algorithms: RLlib finds a name such
as "HAPPO" in Ray's registry alone, which holds classes and asks nobody for those it lacks.
Registering them at the first use of a public name would come too late for
`import rllib_hetero; Tuner("HAPPO")`.
"""

from rllib_hetero_cli.command_line import main

__all__ = ["main"]
