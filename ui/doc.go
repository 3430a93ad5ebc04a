// Package ui is the web page, built by npm and embedded. A build without Node works, too; the page then says so.
//
// Guarantees: what is served allows no script, style or connection but the ledger's own.
package ui
