"""The plugin of a mutation run: a failing example is enough, its smallest form is for people.

Without it Hypothesis would shrink every example that kills a mutant, for seconds each, and would call a test slow that only
shares its processor.
"""

from hypothesis import Phase, settings

settings.register_profile("mutation", phases=(Phase.explicit, Phase.generate), database=None, deadline=None, derandomize=True)
settings.load_profile("mutation")
