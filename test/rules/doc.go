// Package rules holds the rules of the repository that are kept by tests: its
// layout, its imports and the size of its files. The linter keeps the others.
package rules
