// The machines that run Postern and its sidecar.

@description('Put before the name of every resource.')
param prefix string

@description('Region.')
param location string

@description('Availability zones that machines are spread over.')
param zones string[]

@description('The size of the machines: one with accelerated networking, encryption at host and trusted launch.')
param vmSize string

@description('Machines to begin with; autoscale changes it from then on.')
@minValue(2)
@maxValue(1000)
param instances int

@description('The version of the Ubuntu 24.04 image.')
param imageVersion string

@description('Gigabytes of the system disk, which also holds the access log.')
@minValue(30)
@maxValue(1023)
param osDiskGb int

@description('The operator\'s account.')
param adminUsername string

@description('Its public key. There is no password.')
param adminPublicKey string

@description('What cloud-init does.')
param cloudInit string

@description('The subnet of the machines.')
param subnetId string

@description('The load balancer\'s pool.')
param backendPoolId string

@description('The machines\' identity.')
param identityId string

@description('The port of Postern\'s probe listener.')
@minValue(1024)
@maxValue(65535)
param probePort int

@description('Seconds that a new machine has until its health counts.')
@minValue(60)
@maxValue(7200)
param healthGraceSeconds int

@description('Minutes between the notice that a machine is to be deleted and its end.')
@minValue(5)
@maxValue(15)
param terminateNoticeMinutes int

@description('Whether unhealthy machines are replaced.')
param repairs bool

@description('Minutes until an unhealthy machine is replaced.')
@minValue(10)
@maxValue(90)
param repairGraceMinutes int

@description('Whether an upgrade makes new machines before it deletes old ones. Without it the machines are changed in place, and what cloud-init does is not done again.')
param maxSurge bool

@description('Part of the machines that are upgraded at once, in percent.')
@minValue(5)
@maxValue(100)
param batchPercent int

@description('The rule that logs are sent by.')
param logsRuleId string

@description('Where metrics go.')
param workspaceId string

@description('Tags of every resource.')
param tags object

resource scaleSet 'Microsoft.Compute/virtualMachineScaleSets@2024-07-01' = {
  name: '${prefix}-machines'
  location: location
  tags: tags
  zones: zones
  sku: {
    name: vmSize
    tier: 'Standard'
    capacity: instances
  }
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
    }
  }
  properties: {
    orchestrationMode: 'Flexible'
    platformFaultDomainCount: 1
    singlePlacementGroup: false
    zoneBalance: false
    upgradePolicy: {
      mode: 'Rolling'
      rollingUpgradePolicy: {
        maxBatchInstancePercent: batchPercent
        maxUnhealthyInstancePercent: 20
        maxUnhealthyUpgradedInstancePercent: 20
        // A batch is good before the next begins: certificates fetched, routes known, an ingress reached.
        pauseTimeBetweenBatches: 'PT1M'
        prioritizeUnhealthyInstances: true
        maxSurge: maxSurge
      }
    }
    automaticRepairsPolicy: {
      enabled: repairs
      gracePeriod: 'PT${repairGraceMinutes}M'
      repairAction: 'Replace'
    }
    virtualMachineProfile: {
      osProfile: {
        computerNamePrefix: prefix
        adminUsername: adminUsername
        customData: base64(cloudInit)
        linuxConfiguration: {
          disablePasswordAuthentication: true
          provisionVMAgent: true
          patchSettings: {
            // Reboots are announced as scheduled events, and drained.
            patchMode: 'AutomaticByPlatform'
            assessmentMode: 'AutomaticByPlatform'
          }
          ssh: {
            publicKeys: [
              {
                path: '/home/${adminUsername}/.ssh/authorized_keys'
                keyData: adminPublicKey
              }
            ]
          }
        }
      }
      storageProfile: {
        imageReference: {
          publisher: 'Canonical'
          offer: 'ubuntu-24_04-lts'
          sku: 'server'
          version: imageVersion
        }
        osDisk: {
          createOption: 'FromImage'
          caching: 'ReadWrite'
          diskSizeGB: osDiskGb
          deleteOption: 'Delete'
          managedDisk: {
            storageAccountType: 'Premium_LRS'
          }
        }
      }
      securityProfile: {
        encryptionAtHost: true
        securityType: 'TrustedLaunch'
        uefiSettings: {
          secureBootEnabled: true
          vTpmEnabled: true
        }
      }
      networkProfile: {
        networkApiVersion: '2022-11-01'
        networkInterfaceConfigurations: [
          {
            name: 'data'
            properties: {
              primary: true
              enableAcceleratedNetworking: true
              enableIPForwarding: false
              deleteOption: 'Delete'
              ipConfigurations: [
                {
                  // No public address: connections come through the Private Link Service alone.
                  name: 'data'
                  properties: {
                    primary: true
                    privateIPAddressVersion: 'IPv4'
                    subnet: {
                      id: subnetId
                    }
                    loadBalancerBackendAddressPools: [
                      {
                        id: backendPoolId
                      }
                    ]
                  }
                }
              ]
            }
          }
        ]
      }
      scheduledEventsProfile: {
        terminateNotificationProfile: {
          enable: true
          notBeforeTimeout: 'PT${terminateNoticeMinutes}M'
        }
      }
      diagnosticsProfile: {
        bootDiagnostics: {
          enabled: true
        }
      }
      extensionProfile: {
        extensions: [
          {
            // The only source of health of this scale set; the load balancer's probe decides about traffic.
            name: 'health'
            properties: {
              publisher: 'Microsoft.ManagedServices'
              type: 'ApplicationHealthLinux'
              // 2.0 reads the state from the answer's body.
              typeHandlerVersion: '2.0'
              autoUpgradeMinorVersion: true
              enableAutomaticUpgrade: true
              settings: {
                protocol: 'http'
                port: probePort
                requestPath: '/health/vmss'
                intervalInSeconds: 5
                numberOfProbes: 3
                gracePeriod: healthGraceSeconds
              }
            }
          }
          {
            name: 'logs'
            properties: {
              publisher: 'Microsoft.Azure.Monitor'
              type: 'AzureMonitorLinuxAgent'
              typeHandlerVersion: '1.33'
              autoUpgradeMinorVersion: true
              enableAutomaticUpgrade: true
              settings: {
                authentication: {
                  managedIdentity: {
                    'identifier-name': 'mi_res_id'
                    'identifier-value': identityId
                  }
                }
              }
            }
          }
        ]
      }
    }
  }
}

resource logs 'Microsoft.Insights/dataCollectionRuleAssociations@2022-06-01' = {
  name: 'logs'
  scope: scaleSet
  properties: {
    dataCollectionRuleId: logsRuleId
  }
}

resource metrics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: scaleSet
  properties: {
    workspaceId: workspaceId
    metrics: [
      {
        category: 'AllMetrics'
        enabled: true
      }
    ]
  }
}

@description('The scale set.')
output id string = scaleSet.id

@description('Its name.')
output name string = scaleSet.name
