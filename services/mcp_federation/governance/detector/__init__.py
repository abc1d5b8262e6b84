"""The detector: text as a model reads it, a lexicon of what attacks say, and a model that weighs it."""
