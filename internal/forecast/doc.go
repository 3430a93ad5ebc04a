// Package forecast says how many seats will be wanted at the busiest time of each coming day, and how sure that is.
//
// The method is plain: a regression on the logarithm of the daily peaks, with a factor for each day of the week and a trend that
// levels off, in which recent days count more and strange days (holidays, outages) less. How wrong that is, is not
// assumed but measured: the same method is set back to earlier dates of the same series, and the bands are the quantiles
// of the errors that it would have made. docs/USAGE.md says what follows from that, and what does not.
package forecast
