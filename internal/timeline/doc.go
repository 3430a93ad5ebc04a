// Package timeline is the query language of the timeline, docs/TIMELINE.md: it reads a query, and writes links to one.
package timeline
