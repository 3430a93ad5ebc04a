import type { components } from './schema.gen'

type Schemas = components['schemas']

export type Tenant = Schemas['Tenant']
export type TenantSummary = Schemas['TenantSummary']
export type License = Schemas['License']
export type Lease = Schemas['Lease']
export type LeaseState = Schemas['LeaseState']
export type LicenseStatus = Schemas['LicenseStatus']
export type TransferState = Schemas['TransferState']
export type Event = Schemas['Event']
export type LicenseQueue = Schemas['LicenseQueue']
export type Waiter = Schemas['Waiter']
export type LiveSnapshot = Schemas['LiveSnapshot']
export type LiveChange = Schemas['LiveChange']
export type Problem = Schemas['Problem']
