# SPDX-License-Identifier: MIT
# The software bill of materials of a build, as SPDX 2.3 in JSON (https://spdx.github.io/spdx-spec/v2.3/): what mfres is
# made of here, with versions and licences, and the weights that come with it.

# mfres_component(NAME VERSION LICENCE URL RELATION [FILE]): says that this build uses a library of others. LICENCE is an
# SPDX expression. RELATION is STATIC_LINK, DYNAMIC_LINK or CONTAINS (headers that are compiled in), and OPTIONAL for what
# only a module links. FILE, a library or header, gives the version where VERSION is empty: that of its Debian package.
# Called where the library is found.
function(mfres_component name version licence url relation)
    find_program(MFRES_DPKG_QUERY dpkg-query)
    mark_as_advanced(MFRES_DPKG_QUERY)
    if(NOT version AND ARGC GREATER 5 AND MFRES_DPKG_QUERY)
        file(REAL_PATH "${ARGV5}" path)
        foreach(name IN ITEMS "${path}" "${ARGV5}") # /lib may be a link to /usr/lib
            execute_process(COMMAND ${MFRES_DPKG_QUERY} -S "${name}" OUTPUT_VARIABLE owner ERROR_QUIET RESULT_VARIABLE failed)
            if(NOT failed)
                break()
            endif()
        endforeach()
        if(NOT failed)
            string(REGEX REPLACE ": /.*$" "" owner "${owner}")
            execute_process(COMMAND ${MFRES_DPKG_QUERY} -W -f "\${Version}" "${owner}" OUTPUT_VARIABLE version ERROR_QUIET)
        endif()
    endif()
    if(NOT version)
        set(version NOASSERTION)
    endif()
    set_property(GLOBAL APPEND PROPERTY mfres_components "${name}|${version}|${licence}|${url}|${relation}")
endfunction()

# The relation of a library target of others: STATIC_LINK or DYNAMIC_LINK.
function(mfres_link_relation target result)
    set(relation DYNAMIC_LINK)
    if(MFRES_STATIC_PROGRAM)
        set(relation STATIC_LINK)
    elseif(TARGET ${target})
        get_target_property(type ${target} TYPE)
        if(type STREQUAL "STATIC_LIBRARY")
            set(relation STATIC_LINK)
        endif()
    endif()
    set(${result} ${relation} PARENT_SCOPE)
endfunction()

# When the sources were made: SOURCE_DATE_EPOCH, the last commit, or now where neither is known.
function(mfres_source_date result)
    if(NOT DEFINED ENV{SOURCE_DATE_EPOCH})
        execute_process(COMMAND git -C "${PROJECT_SOURCE_DIR}" log -1 --format=%ct
                        OUTPUT_VARIABLE seconds OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
        if(NOT failed AND seconds MATCHES "^[0-9]+$")
            set(ENV{SOURCE_DATE_EPOCH} ${seconds})
            string(TIMESTAMP date "%Y-%m-%dT%H:%M:%SZ" UTC)
            unset(ENV{SOURCE_DATE_EPOCH})
        endif()
    endif()
    if(NOT date)
        string(TIMESTAMP date "%Y-%m-%dT%H:%M:%SZ" UTC)
    endif()
    set(${result} "${date}" PARENT_SCOPE)
endfunction()

# An entry of "packages".
function(mfres_sbom_package result id name version licence url)
    string(TOLOWER "${name}" generic)
    string(REGEX REPLACE "[^a-z0-9.+-]" "-" generic "${generic}")
    set(purl "pkg:generic/${generic}")
    if(NOT version STREQUAL "NOASSERTION")
        string(APPEND purl "@${version}")
    endif()
    set(${result} "    {
      \"name\": \"${name}\",
      \"SPDXID\": \"${id}\",
      \"versionInfo\": \"${version}\",
      \"downloadLocation\": \"${url}\",
      \"filesAnalyzed\": false,
      \"licenseConcluded\": \"${licence}\",
      \"licenseDeclared\": \"${licence}\",
      \"copyrightText\": \"NOASSERTION\",
      \"externalRefs\": [{\"referenceCategory\": \"PACKAGE-MANAGER\", \"referenceType\": \"purl\", \"referenceLocator\": \"${purl}\"}]
    }" PARENT_SCOPE)
endfunction()

# Writes the document of all components and weights to a file.
function(mfres_write_sbom file)
    mfres_source_date(date)
    mfres_sbom_package(packages SPDXRef-mfres mfres "${PROJECT_VERSION}" MIT NOASSERTION)
    set(relations "    {\"spdxElementId\": \"SPDXRef-DOCUMENT\", \"relationshipType\": \"DESCRIBES\", \"relatedSpdxElement\": \"SPDXRef-mfres\"}")
    get_property(components GLOBAL PROPERTY mfres_components)
    list(REMOVE_DUPLICATES components)
    list(SORT components)
    foreach(component IN LISTS components)
        string(REPLACE "|" ";" parts "${component}")
        list(GET parts 0 name)
        list(GET parts 1 version)
        list(GET parts 2 licence)
        list(GET parts 3 url)
        list(GET parts 4 relation)
        string(REGEX REPLACE "[^A-Za-z0-9.-]" "-" id "SPDXRef-${name}")
        mfres_sbom_package(entry "${id}" "${name}" "${version}" "${licence}" "${url}")
        string(APPEND packages ",\n${entry}")
        set(from SPDXRef-mfres)
        set(to "${id}")
        if(relation STREQUAL "OPTIONAL")
            set(relation OPTIONAL_DEPENDENCY_OF)
            set(from "${id}")
            set(to SPDXRef-mfres)
        endif()
        string(APPEND relations ",\n    {\"spdxElementId\": \"${from}\", \"relationshipType\": \"${relation}\", \"relatedSpdxElement\": \"${to}\"}")
    endforeach()
    set(files "")
    file(GLOB weights CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/models/*.safetensors")
    foreach(path IN LISTS weights)
        get_filename_component(name "${path}" NAME)
        set_property(DIRECTORY "${PROJECT_SOURCE_DIR}" APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${path}")
        file(SHA256 "${path}" sha256)
        file(SHA1 "${path}" sha1)
        if(files)
            string(APPEND files ",\n")
        endif()
        string(APPEND files "    {
      \"fileName\": \"./share/mfres/models/${name}\",
      \"SPDXID\": \"SPDXRef-weights-${name}\",
      \"checksums\": [{\"algorithm\": \"SHA1\", \"checksumValue\": \"${sha1}\"}, {\"algorithm\": \"SHA256\", \"checksumValue\": \"${sha256}\"}],
      \"licenseConcluded\": \"MIT\",
      \"licenseInfoInFiles\": [\"NOASSERTION\"],
      \"copyrightText\": \"NOASSERTION\",
      \"comment\": \"weights of a network; models/README.md says how they were trained\"
    }")
        string(APPEND relations ",\n    {\"spdxElementId\": \"SPDXRef-mfres\", \"relationshipType\": \"CONTAINS\", \"relatedSpdxElement\": \"SPDXRef-weights-${name}\"}")
    endforeach()
    string(SHA256 content "${date}${packages}${files}${relations}") # one name for each content
    file(CONFIGURE OUTPUT "${file}" @ONLY CONTENT "{
  \"spdxVersion\": \"SPDX-2.3\",
  \"dataLicense\": \"CC0-1.0\",
  \"SPDXID\": \"SPDXRef-DOCUMENT\",
  \"name\": \"mfres-@PROJECT_VERSION@\",
  \"documentNamespace\": \"https://spdx.org/spdxdocs/mfres-@PROJECT_VERSION@-@content@\",
  \"creationInfo\": {\"created\": \"@date@\", \"creators\": [\"Tool: mfres-platforms/sbom.cmake\"]},
  \"packages\": [
@packages@
  ],
  \"files\": [
@files@
  ],
  \"hasExtractedLicensingInfos\": [
    {\"licenseId\": \"LicenseRef-nifti-public-domain\", \"extractedText\": \"The NIfTI Data Format Working Group disclaims all copyright in nifti_clib and places it in the public domain.\"},
    {\"licenseId\": \"LicenseRef-NVIDIA-CUDA-EULA\", \"extractedText\": \"https://docs.nvidia.com/cuda/eula\"},
    {\"licenseId\": \"LicenseRef-NVIDIA-cuDNN\", \"extractedText\": \"https://docs.nvidia.com/deeplearning/cudnn/latest/reference/eula.html\"}
  ],
  \"relationships\": [
@relations@
  ]
}
")
endfunction()
