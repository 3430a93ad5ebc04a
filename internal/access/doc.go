// Package access says who may do what: one table of permissions and roles, and the one check that both halves of the API make.
//
// Guarantees:
//   - Every route has a permission, the one that api/openapi.yaml declares for its call; what a role does not have is refused.
//   - A tenant's key is of use on paths of its own tenant only, whatever its role. Paths without a tenant are the operator's.
//   - The table is docs/ACCESS.md.
package access
