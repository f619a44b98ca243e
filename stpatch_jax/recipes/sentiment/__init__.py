"""Whether a sentence speaks well."""
