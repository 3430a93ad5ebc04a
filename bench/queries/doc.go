// Command queries measures list and usage queries on read models of ten million leases in a thousand tenants: the first page over HTTP next to the
// same SQL, run by hand as the owner of the tables. It shows the plan of each. Rows are made up by SQL: what is measured is reading them.
package main
