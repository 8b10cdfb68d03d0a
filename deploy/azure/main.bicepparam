// An example: two ingresses, two clusters. Copy it, and leave the copy out of the repository if it says more than names.
using 'main.bicep'

param prefix = 'postern'
param regionCode = 'weu'
param tags = {
  service: 'postern'
}

param adminPublicKey = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExampleExam operator'

param artifactAccount = 'posternartifacts'
param artifactResourceGroup = 'postern-artifacts'
param postern = {
  url: 'https://posternartifacts.blob.core.windows.net/postern/postern-1.0.0'
  sha256: '0000000000000000000000000000000000000000000000000000000000000000'
}
param posternControl = {
  url: 'https://posternartifacts.blob.core.windows.net/postern/postern-control-1.0.0'
  sha256: '1111111111111111111111111111111111111111111111111111111111111111'
}

param serverCertificates = [
  {
    name: 'dicom'
    names: [
      '*.dicom.example'
    ]
  }
  {
    name: 'fhir'
    names: [
      '*.fhir.example'
    ]
  }
]

param internalDomain = 'internal.example'
param routingEndpoints = [
  'routing.internal.example:8450'
]
param routingName = 'routing.internal.example'
param internalHosts = [
  {
    name: 'routing'
    addresses: [
      '10.1.0.20'
    ]
  }
]

param clusters = [
  {
    name: 'dicom'
    serverName: 'weu-aks.internal.example'
  }
  {
    name: 'fhir'
    serverName: 'weu-aks.internal.example'
  }
]

param ingresses = [
  {
    zone: '1'
    endpoints: [
      {
        name: 'current'
        address: '10.1.0.5'
        enabled: true
        probed: false
      }
    ]
  }
  {
    zone: '2'
    endpoints: [
      {
        name: 'current'
        address: '10.1.1.5'
        enabled: true
        probed: false
      }
      {
        name: 'next'
        address: '10.1.1.6'
        enabled: false
        probed: false
      }
    ]
  }
]

param peerNetworkIds = []
param certificateOfficers = []
param actionGroupIds = []
